-- One for each filter of the list, in the order of the list; where several filter, the planner joins or chooses.
create index worker_pool on worker (pool, id);
create index worker_state on worker (state, id);
create index worker_expires_at on worker (expires_at) where expires_at is not null;
create index worker_name on worker (name, id) where name is not null;
create index worker_labels on worker using gin (labels jsonb_path_ops);
