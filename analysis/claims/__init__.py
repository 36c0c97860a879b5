"""The claims of the publications, each with a verdict by a stated rule."""
