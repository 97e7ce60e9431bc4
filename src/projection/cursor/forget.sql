-- A version that nobody keeps any more.
delete from projection.cursor where schema_name = $1
