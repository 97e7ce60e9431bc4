-- What is missing of that which keeps the log append-only, and what brings it back; null where nothing is. Triggers have to
-- fire always: an ordinary one is silent in a session that calls itself a replica.
with tables as (
    select relation.oid, relation.oid::regclass::text as name, coalesce(parent.relname, relation.relname) as kind,
           parent.oid is not null as is_partition
      from pg_class relation
      left join pg_inherits link on link.inhrelid = relation.oid and link.inhparent = 'log.event'::regclass
      left join pg_class parent on parent.oid = link.inhparent
     where parent.oid is not null
        or relation.oid in ('log.event'::regclass, 'log.command'::regclass, 'log.genesis'::regclass, 'log.head'::regclass)
),
wanted_triggers (kind, trigger, fires, function) as (
    values
        ('event', 'event_append_only', 'before update or delete on %s for each row', 'log.refuse_change'),
        ('event', 'event_no_truncate', 'before truncate on %s for each statement', 'log.refuse_change'),
        ('command', 'command_append_only', 'before update or delete on %s for each row', 'log.refuse_change'),
        ('command', 'command_no_truncate', 'before truncate on %s for each statement', 'log.refuse_change'),
        ('genesis', 'genesis_append_only', 'before update or delete on %s for each row', 'log.refuse_change'),
        ('genesis', 'genesis_no_truncate', 'before truncate on %s for each statement', 'log.refuse_change'),
        ('head', 'head_no_delete', 'before delete on %s for each row', 'log.refuse_change'),
        ('head', 'head_no_truncate', 'before truncate on %s for each statement', 'log.refuse_change'),
        ('head', 'head_forward', 'before update on %s for each row', 'log.refuse_head_going_back')
),
unwanted_rights (kind, update, rights) as (
    values
        ('event', true, 'update, delete, truncate'),
        ('command', true, 'update, delete, truncate'),
        ('genesis', true, 'update, delete, truncate'),
        -- Every append moves it.
        ('head', false, 'delete, truncate')
),
wrong_triggers as (
    select name, is_partition, wanted.trigger,
           format('the trigger `%s` on %s is missing or does not always fire', wanted.trigger, name) as what,
           case when found.tgfoid is distinct from wanted.function::regproc then
               format('create or replace trigger %I %s execute function %s(); ',
                      wanted.trigger, format(wanted.fires, name), wanted.function)
           else '' end || format('alter table %s enable always trigger %I', name, wanted.trigger) as remedy
      from tables
      join wanted_triggers wanted on wanted.kind = tables.kind
      left join pg_trigger found on found.tgrelid = tables.oid and found.tgname = wanted.trigger
     where found.tgfoid is distinct from wanted.function::regproc or found.tgenabled <> 'A'
),
wrong_rights as (
    select name, is_partition, null as trigger,
           format('the role %s may change or remove what is in %s', current_user, name) as what,
           format('revoke %s on %s from %I, public', rights, name, current_user) as remedy
      from tables
      join unwanted_rights unwanted on unwanted.kind = tables.kind
     where (unwanted.update and has_any_column_privilege(oid, 'update'))
        or has_table_privilege(oid, 'delete')
        or has_table_privilege(oid, 'truncate')
)
-- Triggers on rows come to a partition with those of the table, and go with them.
select string_agg(what, ', and ' order by is_partition, name, what) as what,
       string_agg(remedy, '; ' order by is_partition, name, what) as remedy
  from (select * from wrong_triggers union all select * from wrong_rights) wrong
 where not is_partition
    or trigger is distinct from 'event_append_only'
    or not exists (select from wrong_triggers other where other.name = 'log.event' and other.trigger = wrong.trigger)
