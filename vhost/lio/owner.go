package lio

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"minivmm/internal/flock"

	"golang.org/x/sys/unix"
)

// prefix begins the name of everything that this package makes.
const prefix = "minivmm."

// identity names one target and its backstores. Nothing is decided by the process id: in another
// pid namespace it means another process.
type identity struct {
	pid    int    // of the process that made it, for people
	number uint64 // random, so no name is used twice
}

func (id identity) String() string { return fmt.Sprintf("%s%d.%d", prefix, id.pid, id.number) }

// parseWWPN returns the identity of a target's folder. Targets of minivmm's first versions have
// another form of name, and nothing that tells whether their owner runs; they are not recognised.
func parseWWPN(name string) (id identity, ok bool) {
	pid, number, _ := strings.Cut(strings.TrimPrefix(name, "naa."+prefix), ".")
	p, err1 := strconv.ParseUint(pid, 10, 31)
	n, err2 := strconv.ParseUint(number, 10, 64)
	id = identity{int(p), n}
	return id, err1 == nil && err2 == nil && name == wwpn(id)
}

// hba returns the folder name of the target's adapter for a plugin, "fileio" or "iblock".
func (id identity) hba(plugin string) string { return fmt.Sprintf("%s_%d", plugin, id.number) }

// errOwned says that a target's owner runs.
var errOwned = errors.New("the owner runs")

// claim locks the folder of a target, for as long as the returned file is open. Create keeps it
// open, so the kernel releases the lock when the owner has ended, however it ends. All mounts of
// configfs show the same folder, so the lock (flock(2)) is seen from every namespace and container.
//
// A folder exists as long as anything of its target does: Create makes it first, and remove
// removes it last. errOwned if another process has it; os.ErrNotExist if it is gone.
func (t tree) claim(id identity) (*os.File, error) {
	path := t.path("vhost", wwpn(id))
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	err = flock.Try(f)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errOwned
	}
	if err == nil {
		// A recovery may have removed the folder before it was locked.
		_, err = os.Stat(path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// reserve makes and claims a folder for a target of this process. Between the two a recovery may
// take the folder for a leftover; then the next one is tried.
func (t tree) reserve() (identity, *os.File, error) {
	for {
		// From 1<<62 on, far away from the numbers that people give to adapters.
		id := identity{os.Getpid(), rand.Uint64()>>2 | 1<<62}
		if err := t.fs.mkdir(t.path("vhost", wwpn(id))); err != nil {
			return id, nil, err
		}
		lock, err := t.claim(id)
		if err == nil {
			return id, lock, nil
		}
		if !errors.Is(err, errOwned) && !errors.Is(err, os.ErrNotExist) {
			return id, nil, errors.Join(err, t.rm(t.path("vhost", wwpn(id))))
		}
	}
}
