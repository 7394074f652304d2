"""Runs reports of ServiceTitan's reporting API, and finds them.

`reading` reads a report completely, `run` runs it for one page by either contract, `envelope`
parses responses, and `directory` lists categories, reports, parameters and the values that they
accept. `http.rate_limit` keeps to the limit of runs.
"""
