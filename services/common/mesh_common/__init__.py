"""What all services of the mesh share. Something enters here only when two services need it."""
