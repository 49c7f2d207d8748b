"""`treadle backup` and `treadle restore`: a dump of the database with a manifest that verifies it.

- `commands`: the commands and their options.
- `backup`: writes a backup.
- `restore`: restores a backup into an empty database, and verifies it.
- `manifest`: the file that says what a backup contains.
- `contents`: counts and checksums of the tables of a database.
- `postgres_programs`: finds and runs pg_dump, pg_restore and psql.
"""
