-- What became of commands, by their ids; with the sealed part where it is still kept. An outcome that is gone shows by what
-- its command has written since position $2. Each id is looked up by itself: no plan can come to read a table from end to end.
select asked.command_id, c.command_id is not null as is_kept, c.fingerprint, c.position, c.outcome,
       (select s.sealed from log.sealed_outcome s where s.command_id = c.command_id and s.expires_at > now()) as sealed,
       case when c.command_id is null then
           (select e.position from log.event e where e.command_id = asked.command_id and e.position >= $2 limit 1)
       end as written_at
  from unnest($1::uuid[]) as asked (command_id)
  left join lateral (select * from log.command where command_id = asked.command_id limit 1) c on true
