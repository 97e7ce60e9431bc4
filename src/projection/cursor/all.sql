-- Where every projection stands, of whatever version.
select schema_name, name, version, position, built_at from projection.cursor order by name, version
