-- What a reader folds, in order.
select position, entry, mac, leaf_hash from log.event where position >= $1 and position < $2 order by position
