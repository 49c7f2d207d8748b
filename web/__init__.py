"""The browser page: GraphiQL, built from npm packages and served beside the API.

- build: build the page into `dist` with Node.js
- site: serve the page and its files
"""
