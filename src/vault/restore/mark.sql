-- What marks a database as half restored, and the roles that the dump names: no dump brings them along.
do $$
begin
    create schema if not exists portcullis_restore;
    if to_regrole('portcullis_service') is null then
        create role portcullis_service nologin;
    end if;
    if to_regrole('portcullis_reader') is null then
        create role portcullis_reader nologin;
    end if;
end
$$
