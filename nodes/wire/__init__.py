"""What travels between gateways and nodes, and the sockets that it travels over."""
