// Package cache stores files and folders that are fetched or built only once. Each is an entry in
// the cache's folder. An entry is created in a temporary place and moved to its final place by a
// single rename, so an entry is either complete or absent.
//
// It is not a general cache: nothing expires, and the caller chooses names that contain the version
// or the hash of the content. Any number of processes may use one Cache at once. Each entry has a
// file lock (flock(2)): the first process builds the entry while the other processes wait. The next
// process that creates an entry removes the unfinished work of processes that died.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"minivmm/internal/flock"
	"minivmm/internal/userdir"
	"minivmm/internal/workdir"
)

// Env names the environment variable that selects another folder for the cache.
const Env = "MINIVMM_CACHE"

// Cache is a folder of entries in one file system. Log, if not nil, receives a line about each slow
// operation.
type Cache struct {
	Root   string
	Log    io.Writer
	Prefix string // starts each line in Log and names the program, like "minivmm: "

	logging sync.Mutex // serializes lines
}

// Open returns the cache in $MINIVMM_CACHE, or else in the folder minivmm of os.UserCacheDir. It
// refuses a cache that belongs to another user, because entries are booted and executed, and links
// in the cache may lead anywhere.
func Open(log io.Writer) (*Cache, error) {
	root := os.Getenv(Env)
	if root == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("cache: no cache folder (set %s): %w", Env, err)
		}
		root = filepath.Join(base, "minivmm")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	if err := userdir.CheckOwner(root); err != nil {
		return nil, fmt.Errorf("cache %s: %w (set %s=FOLDER to use a folder of this user)", root, err, Env)
	}
	return &Cache{Root: root, Log: log}, nil
}

// Logf writes one line to the log.
func (c *Cache) Logf(format string, args ...any) {
	if c.Log != nil {
		c.logging.Lock()
		defer c.logging.Unlock()
		fmt.Fprintf(c.Log, "%s%s\n", c.Prefix, fmt.Sprintf(format, args...))
	}
}

// Path returns the path of an entry, which may not exist. A name is a slash-separated path.
func (c *Cache) Path(name string) string {
	return filepath.Join(c.Root, filepath.FromSlash(name))
}

// Has reports whether the entry exists.
func (c *Cache) Has(name string) bool {
	_, err := os.Lstat(c.Path(name))
	return err == nil
}

// Make returns the path of the entry with the given name. If the entry does not exist, Make first
// calls build, which must create a file or a folder at the path tmp. That path is in the cache's
// file system and does not exist yet.
func (c *Cache) Make(ctx context.Context, name string, build func(ctx context.Context, tmp string) error) (string, error) {
	path := c.Path(name)
	if c.Has(name) {
		return path, nil
	}
	unlock, err := c.Lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if c.Has(name) {
		return path, nil
	}
	return path, c.put(name, func(tmp string) error { return build(ctx, tmp) })
}

// put builds an entry in a work folder and moves the entry to its final place.
func (c *Cache) put(name string, build func(tmp string) error) error {
	path := c.Path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return failed(err)
	}
	work, err := c.Work()
	if err != nil {
		return err
	}
	defer work.Close()
	// Only its owner can read the work folder, so the unfinished entry in it can have any mode. Who
	// may read finished entries is up to the owner of the cache.
	tmp := filepath.Join(work.Path, "entry")
	if err := build(tmp); err != nil {
		return err
	}
	if err := workdir.Sync(tmp); err != nil {
		return failed(err)
	}
	return failed(os.Rename(tmp, path))
}

// making is the folder that contains the work folders.
const making = "making"

// Work creates a work folder, in the same file system as the entries. It first removes the work
// folders of processes that died. The caller must close it.
func (c *Cache) Work() (*workdir.Dir, error) {
	dir := c.Path(making)
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = workdir.Sweep(dir)
	}
	if err != nil {
		return nil, failed(err)
	}
	work, err := workdir.Temp(dir)
	return work, failed(err)
}

// Read returns the content of a small file entry. The error for a missing entry is fs.ErrNotExist.
func (c *Cache) Read(name string) (string, error) {
	b, err := os.ReadFile(c.Path(name))
	return string(b), err
}

// Write replaces a small file entry.
func (c *Cache) Write(name, content string) error {
	return c.put(name, func(tmp string) error { return failed(os.WriteFile(tmp, []byte(content), 0o644)) })
}

// Remove deletes an entry. It is not an error if the entry does not exist.
func (c *Cache) Remove(name string) error { return failed(os.RemoveAll(c.Path(name))) }

// Lock takes the lock for the entry with the given name, and waits until the current holder
// releases it. The kernel releases the lock when the process exits. Lock files are never removed:
// otherwise two processes could hold locks on two different files with the same name.
func (c *Cache) Lock(ctx context.Context, name string) (unlock func(), err error) {
	path := c.Path("locks/" + strings.ReplaceAll(name, "/", "+"))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, failed(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, failed(err)
	}
	err = flock.Try(f)
	if errors.Is(err, unix.EWOULDBLOCK) {
		c.Logf("waiting for another process that is working on %s", name)
		err = flock.Wait(ctx, f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// failed wraps err, and adds advice if this user may not write to the cache, because it belongs to
// another user or is on a read-only file system.
func failed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Errorf("cache: %w (set %s=FOLDER to use a folder that this user may write to)", err, Env)
	}
	return fmt.Errorf("cache: %w", err)
}
