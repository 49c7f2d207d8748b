"""Own sentences for the errors of the databases that tools query, by their SQLSTATE.

A message quotes only what the author has written, such as the name of a column. Pure.
"""

import re

import asyncpg

from engine.connection_faults import connection_fault

_SENTENCES = {
    "08P01": "the query and its `parameters` do not fit: pass one value for each of $1, $2 …",
    "0A000": "the query uses something that is not possible here: write one SELECT without commands that change data",
    "21000": "a subquery gives more than one row or column where one value is needed",
    "22003": "a number is out of the range of its type",
    "22007": "{} is no date or time: write it as 2030-01-31T09:00:00Z",
    "22008": "a date or time is out of range",
    "22012": "division by zero: check the divisor, for example with NULLIF(x, 0)",
    "22023": "an argument of a function or a setting is not valid",
    "22P02": "{} is not valid for the type of its column or parameter",
    "25001": "the query changes a setting of the transaction, which is not possible here",
    "25006": "the query changes something, and only reading is allowed",
    "28000": "the database refuses the user of the catalog's URL",
    "28P01": "the database refuses the password of the catalog's URL",
    "3D000": "the database {} of the catalog's URL does not exist",
    "42501": "the role of the catalog's URL has no right to {}",
    "42601": "syntax error{}: write one SELECT",
    "42602": "{} is no valid name",
    "42702": "the column {} exists in more than one table: write it with its table, as in t.column",
    "42703": "the column {} does not exist",
    "42704": "{} does not exist",
    "42725": "a function or operator is ambiguous: give the types, as in $1::int",
    "42803": "the column {} must be in GROUP BY or inside of an aggregate",
    "42804": "two types do not fit together: convert one, as in x::int",
    "42846": "a value cannot be converted to this type",
    "42883": "a function or operator does not exist for these types: check its name, and convert with x::int or x::text",
    "42P01": "the table {} does not exist",
    "42P02": "the query uses a parameter that `parameters` does not have",
    "42P08": "a parameter is used with two types: give its type, as in $1::int",
    "42P18": "the type of a parameter is not known: give it, as in $1::int",
    "53300": "the database has no free connection",
    "54001": "the query is too complex",
    "57P01": "the database is shutting down",
    "57P02": "the database has crashed and restarts",
    "57P03": "the database is starting",
}
_CLASSES = {
    "08": "the connection was lost",
    "22": "a value does not fit its type",
    "40": "another transaction stood in the way: try again",
    "53": "the database has no resources left",
    "54": "the query exceeds a limit of the database",
    "57": "an operator of the database has stopped the query",
}
_QUOTED = re.compile(r'"([^"]{1,100})"')
_NAMES = re.compile(r"(?:for|column) (?:schema |table |view |sequence |function )?([\w.]{1,100})")


def sql_message(error: Exception) -> str:
    """Return what is wrong with a query, or with the connection to the database."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        known = _SENTENCES.get(state) or _CLASSES.get(state[:2])
        return _filled(known, str(error)) if known else f"the database refuses the query (SQLSTATE {state})"
    if isinstance(error, asyncpg.InterfaceError) and "argument" in str(error):
        return _SENTENCES["08P01"]
    if isinstance(error, asyncpg.InterfaceError):
        return "a value in `parameters` does not fit its type, or the connection was lost"
    return connection_fault(error) or "no connection could be made"


def _filled(sentence: str, message: str) -> str:
    found = _QUOTED.search(message) or _NAMES.search(message)
    if sentence.startswith("syntax error"):
        return sentence.format(f" at or near {found[1]!r}" if found else "")
    return sentence.format(repr(found[1]) if found else "what the query names")
