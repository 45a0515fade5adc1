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

// Cache is a folder of entries, in one file system. Log, which may be nil, receives a line when an
// operation takes time.
type Cache struct {
	Root   string
	Log    io.Writer
	Prefix string // starts each line in Log and names the program: "minivmm: "

	logging sync.Mutex // serializes lines
}

// Open returns the cache in $MINIVMM_CACHE, or else in the folder minivmm of os.UserCacheDir.
// It refuses the cache of another user: its entries are booted and executed, and its links may lead
// anywhere.
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

// Path returns the path of the entry name, whether it exists or not. A name is a relative, slash
// separated path.
func (c *Cache) Path(name string) string {
	return filepath.Join(c.Root, filepath.FromSlash(name))
}

// Has reports whether the entry exists.
func (c *Cache) Has(name string) bool {
	_, err := os.Lstat(c.Path(name))
	return err == nil
}

// Make returns the path of the entry name, and builds it first if it does not exist. build receives
// a path in the same file system that does not exist yet, and must create a file or a folder there.
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
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", failed(err)
	}
	work, err := c.Work()
	if err != nil {
		return "", err
	}
	defer work.Close()
	// The cache's owner decides who may read entries; only the owner may read a work folder.
	tmp := filepath.Join(work.Path, "entry")
	if err := build(ctx, tmp); err != nil {
		return "", err
	}
	if err := workdir.Sync(tmp); err != nil {
		return "", failed(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return "", failed(err)
	}
	return path, nil
}

// Read returns the content of a small file entry. If the entry does not exist, the error matches
// fs.ErrNotExist.
func (c *Cache) Read(name string) (string, error) {
	b, err := os.ReadFile(c.Path(name))
	return string(b), err
}

// Write replaces a small file entry.
func (c *Cache) Write(name, content string) error {
	path := c.Path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return failed(err)
	}
	work, err := c.Work()
	if err != nil {
		return err
	}
	defer work.Close()
	tmp := filepath.Join(work.Path, "entry")
	if err := errors.Join(os.WriteFile(tmp, []byte(content), 0o644), workdir.Sync(tmp)); err != nil {
		return failed(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return failed(err)
	}
	return nil
}

// Remove deletes an entry. It is not an error if the entry does not exist.
func (c *Cache) Remove(name string) error {
	if err := os.RemoveAll(c.Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed(err)
	}
	return nil
}

// Lock takes the lock that belongs to name, and waits for the current holder; the kernel releases
// it when the process exits. Lock files are never removed: otherwise two processes could hold locks
// on two different files.
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

// failed adds advice for a user whose cache belongs to another user or is on a read-only file
// system.
func failed(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("cache: %w (set %s=FOLDER to use a folder that this user may write to)", err, Env)
	}
	return fmt.Errorf("cache: %w", err)
}
