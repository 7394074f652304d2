"""Sends authenticated, rate-limited and retried requests to ServiceTitan.

Start at `client`: a `Client` for one tenant, and its sessions. `auth` issues tokens, `transport`
makes a single HTTP exchange, and `responses` turns an error response into an exception. The
package must not import `reading`.
"""
