"""How the message path and detection want their statements planned: by looking keys up in indexes, whatever the statistics say.

Its statements are prepared, and a plan made while a table was small is kept while the table grows by thousands of rows a
second, until somebody analyzes it. Every one of them joins a set of at most a few hundred keys to indexed tables, for
which reading a table as a whole is never right.
"""

from sqlalchemy import Connection, text

PREFER_LOOKUPS = text("""
    select set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
           set_config('enable_mergejoin', 'off', true)
""")


def prefer_lookups(tx: Connection) -> None:
    """Have this transaction's statements look rows up by index. Ends with the transaction."""
    tx.execute(PREFER_LOOKUPS)
