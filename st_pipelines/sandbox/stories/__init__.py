"""Stories render the company's entities as records of a table. One module per business area.

Start reading at `story`, which defines `Story`. `world` collects the stories, and builds one with
`generic` for each table that has none here. Nothing here depends on tables or requests.
"""
