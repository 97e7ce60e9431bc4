-- What was done for an incident is found by it. Most events carry none, and stand in no index for that.
create index event_incident_position on log.event (incident, position) where incident is not null;

-- The same for people with a SQL client.
create or replace view log.entries as
select
    position,
    recorded_at,
    kind,
    subject_kind,
    subject_id,
    pool,
    actor,
    convert_from(entry, 'UTF8')::jsonb as entry,
    incident
from log.event;
