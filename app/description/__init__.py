"""What the OpenAPI document says besides the routes themselves: names of operations, examples, layouts of answers."""
