"""A store that several processes share: Redis or Postgres, reached by one supervised connection."""
