"""`make up`: starts a private PostgreSQL, a private Redis and the processes of Darkroom."""
