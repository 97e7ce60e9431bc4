-- One for each filter of the list, in the order of the list; where several filter, the planner joins or chooses.
create index key_issued on key (issued);
create index key_worker on key (worker, issued) where worker is not null;
create index key_sharers on key using gin (sharers) where sharers is not null;
create index key_operator on key (operator, issued) where operator is not null;
create index key_pool on key (pool, issued) where pool is not null;
create index key_state on key (state, issued);
create index key_ends_at on key (ends_at) where ends_at is not null;
create index key_kind on key (kind, issued);
create index key_shared on key (issued) where shared;
