"""What `make up` starts: a private PostgreSQL and Redis, and the processes of Darkroom."""
