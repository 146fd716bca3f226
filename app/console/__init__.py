"""The web console: static files over the public interface, without a build step."""
