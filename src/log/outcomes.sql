-- What became of commands, by their ids; with the sealed part where it is still kept.
select c.command_id, c.fingerprint, c.position, c.outcome, s.sealed
  from log.command c
  left join log.sealed_outcome s on s.command_id = c.command_id and s.expires_at > now()
 where c.command_id = any($1)
