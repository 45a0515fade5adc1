package lio

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"minivmm/internal/flock"

	"golang.org/x/sys/unix"
)

// prefix is the prefix of all names that this package creates.
const prefix = "minivmm."

// identity names one target and its backstores. The process id is only informational, because in
// another pid namespace the same id belongs to another process.
//
// The secret makes the target's name a capability: VHOST_SCSI_SET_ENDPOINT connects a device to any
// target whose name the caller knows (vhost_scsi_set_endpoint), so a process that has a vhost-scsi
// descriptor but cannot read configfs must not be able to guess the name of another VM's target.
type identity struct {
	pid    int    // creating process, informational
	number uint64 // random, for unique names
	secret [16]byte
}

// newIdentity returns a random identity for a target of this process. Numbers start at 1<<62, so
// that they do not collide with adapters that administrators number by hand.
func newIdentity() identity {
	var b [24]byte
	rand.Read(b[:])
	return identity{os.Getpid(), binary.NativeEndian.Uint64(b[:])>>2 | 1<<62, [16]byte(b[8:])}
}

func (id identity) String() string {
	return fmt.Sprintf("%s%d.%d.%x", prefix, id.pid, id.number, id.secret)
}

// parseWWPN returns the identity of a target from the name of the target's folder. It does not
// recognize targets of minivmm's first versions, whose names have another format, because minivmm
// cannot detect whether the owners of these targets are running.
func parseWWPN(name string) (id identity, ok bool) {
	parts := strings.Split(strings.TrimPrefix(name, "naa."+prefix), ".")
	if len(parts) != 3 {
		return id, false
	}
	pid, err1 := strconv.ParseUint(parts[0], 10, 31)
	number, err2 := strconv.ParseUint(parts[1], 10, 64)
	secret, err3 := hex.DecodeString(parts[2])
	id = identity{pid: int(pid), number: number}
	copy(id.secret[:], secret)
	return id, errors.Join(err1, err2, err3) == nil && name == wwpn(id)
}

// hba returns the folder name of the target's adapter for one plugin. The plugin is "fileio" or
// "iblock".
func (id identity) hba(plugin string) string { return fmt.Sprintf("%s_%d", plugin, id.number) }

// errOwned means that a target's owner is running.
var errOwned = errors.New("the owner is running")

// claim locks the folder of a target until the returned file is closed. Create keeps the file open,
// so the kernel releases the lock when the owner exits for any reason. All mounts of configfs show
// the same folder, so the lock (flock(2)) works across namespaces and containers.
//
// A folder exists as long as any part of its target does: Create creates it first, and remove
// removes it last. claim returns errOwned if another process holds the lock, and os.ErrNotExist if
// the folder is gone.
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
// in another process may remove the folder as a leftover; then reserve tries another identity.
func (t tree) reserve() (identity, *os.File, error) {
	for {
		id := newIdentity()
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
