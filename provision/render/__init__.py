"""Everything that is rendered from templates: the only user of jinja2."""
