"""Plans what happens in the company, one module per business area, without rendering anything.

`company` calls `customers`, `front_office`, `field_work` and `purchasing` day by day; these call
`contracts` and `billing`. All write to `books`. What follows from these entities, in `journal`,
`payroll` and `banking`, is planned as a `Chapter` when a table first needs it. `stories` render the
entities.
"""
