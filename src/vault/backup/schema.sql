-- How far the database is migrated.
select max(version) from public.refinery_schema_history
