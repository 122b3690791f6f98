"""A real PostgreSQL 18 and a real Valkey 9 from wheels, so that one install gives the whole system.

For laptops, tests and small installations. Larger ones point DATABASE_URL and BROKER_URL at servers of their own.
"""
