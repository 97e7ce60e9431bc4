# Runs a throwaway Postgres and stops it once nobody needs it.
#   sh -c <this> cluster <users> <folder> <command of postgres>...
# Each test process holds a shared lock on <users> while it lives. A run of tests is many processes that come and go, and
# may be killed: so the end of the run is seen by the lock being free twice in a row, 5 s apart.
users=$1
folder=$2
shift 2
"$@" &
server=$!
exec 9<"$users"
idle=0
while sleep 5 && kill -0 "$server" 2>/dev/null; do
    if ! flock --nonblock --exclusive 9; then
        idle=0
        continue
    fi
    idle=$((idle + 1))
    if [ "$idle" -ge 2 ]; then
        # The lock is kept: whoever waits for it finds the folder gone, and makes another.
        kill -QUIT "$server"
        wait "$server"
        rm -rf "$folder"
        exit
    fi
    flock --unlock 9
done
