"""Who may ask: names, origins, users, roles, TLS."""
