"""The gateway process: HTTP below and around the routes, and how it is put together."""
