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

// prefix is the prefix of all names that this package creates.
const prefix = "minivmm."

// identity names one target and its backstores. The process id is informational only: in another
// pid namespace it is another process.
type identity struct {
	pid    int    // creating process, informational
	number uint64 // random, so that names are unique
}

func (id identity) String() string { return fmt.Sprintf("%s%d.%d", prefix, id.pid, id.number) }

// parseWWPN returns the identity of a target's folder. It does not recognize targets of minivmm's
// first versions, whose names have another format, because nothing shows whether their owner is
// running.
func parseWWPN(name string) (id identity, ok bool) {
	pid, number, _ := strings.Cut(strings.TrimPrefix(name, "naa."+prefix), ".")
	p, err1 := strconv.ParseUint(pid, 10, 31)
	n, err2 := strconv.ParseUint(number, 10, 64)
	id = identity{int(p), n}
	return id, err1 == nil && err2 == nil && name == wwpn(id)
}

// hba returns the folder name of the target's adapter for a plugin, "fileio" or "iblock".
func (id identity) hba(plugin string) string { return fmt.Sprintf("%s_%d", plugin, id.number) }

// errOwned means that a target's owner is running.
var errOwned = errors.New("the owner is running")

// claim locks the folder of a target until the returned file is closed. Create keeps the file open,
// so the kernel releases the lock when the owner exits for any reason. All mounts of configfs show
// the same folder, so the lock (flock(2)) works across namespaces and containers.
//
// A folder exists as long as any part of its target does: Create creates it first, and remove
// removes it last. errOwned if another process holds the lock; os.ErrNotExist if the folder is
// gone.
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
		// Recover in another process may have removed the folder before it was locked.
		_, err = os.Stat(path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// reserve creates and claims a folder for a target of this process. Between the two steps, Recover
// in another process may remove the folder as a leftover; then reserve tries another one.
func (t tree) reserve() (identity, *os.File, error) {
	for {
		// Numbers start at 1<<62, so that they do not collide with adapters that people number by
		// hand.
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
