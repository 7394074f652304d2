"""Turns the rows of a report, which have no declared types, into typed columns of its table.

`inference` finds the type that holds all values of a column exactly, `columns` decides on names and
types together with what the table has, `rows` keeps the pages and turns them into records, and
`table` changes the table when a load commits. The rest of a load is that of any other table.
"""
