"""What is done once per mesh and needs no running service: keys, passwords, roles and schemas."""
