"""The browser pages: the studio and GraphiQL, built from npm packages and served beside the API.

- build: build the pages into `dist` with Node.js
- check: check the types of the studio, and how much a browser loads first
- site: serve the pages and their files
"""
