"""What a browser loads: GraphiQL now, a studio later. `build.py` makes it from npm packages, `site.py` serves it."""
