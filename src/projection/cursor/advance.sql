-- From where they were known to be, or not at all.
update projection.cursor set position = $3 where schema_name = any ($1) and position = $2
