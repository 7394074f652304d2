"""Reads whole endpoints, and proves that nothing is missing.

Start at `read`, the entry point; `completeness` holds the argument that a reading is complete.
`page_source` fetches single pages, `paging` goes through them, `export_feed` follows continuation
tokens, `lookup` reads records by id, and `probes` asks whether there is anything new.
"""
