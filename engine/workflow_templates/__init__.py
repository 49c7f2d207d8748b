"""Example workflows from which users create their own, each a JSON file in this folder.

Modules:
    loader: Reads the files, and selects those whose node types exist.
"""
