package lio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// remove removes a target and its backstores, as far as they exist: what Create
// made, in the reverse order, found by looking and not from memory, so that it
// works after a crash at any point. EBUSY, and nothing removed, if a vhost device
// has the target as its endpoint.
func (t tree) remove(id identity) error {
	target := t.path("vhost", wwpn(id))
	tpgs, err := list(target, "tpgt_")
	if err != nil {
		return err
	}
	for _, name := range tpgs {
		if err := t.removeTPG(filepath.Join(target, name)); err != nil {
			return err
		}
	}
	for _, plugin := range []string{pluginFile, pluginBlock} {
		hba := t.path("core", id.hba(plugin))
		stores, err := list(hba, id.String()+".")
		if err != nil {
			return err
		}
		for _, name := range stores {
			if err := t.rm(filepath.Join(hba, name)); err != nil {
				return err
			}
		}
		if err := t.rm(hba); err != nil {
			return err
		}
	}
	return t.rm(target)
}

// removePatiently is remove for a target whose vhost device is just being let
// go of, by a child before it execs or by a process that was killed.
func (t tree) removePatiently(id identity) error {
	const attempts, pause = 100, 10 * time.Millisecond
	err := t.remove(id)
	for i := 0; i < attempts && errors.Is(err, unix.EBUSY); i++ {
		time.Sleep(pause)
		err = t.remove(id)
	}
	return err
}

// rm removes a link or an object. One that is gone is no error.
func (t tree) rm(path string) error {
	if err := t.fs.remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (t tree) removeTPG(tpg string) error {
	// The kernel looks for an endpoint before it looks for children (configfs_rmdir).
	if err := t.rm(tpg); !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	acls, err := list(filepath.Join(tpg, "acls"), "naa."+prefix)
	if err != nil {
		return err
	}
	for _, name := range acls {
		if err := t.removeLUNs(filepath.Join(tpg, "acls", name)); err != nil {
			return err
		}
	}
	if err := t.removeLUNs(filepath.Join(tpg, "lun")); err != nil {
		return err
	}
	// The session goes before its ACL, and can only go without LUNs. ENODEV:
	// there is none.
	err = t.fs.write(filepath.Join(tpg, "nexus"), "NULL")
	if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, name := range acls {
		if err := t.rm(filepath.Join(tpg, "acls", name)); err != nil {
			return err
		}
	}
	return t.rm(tpg)
}

// removeLUNs removes the folders lun_* in a folder, each with its link.
func (t tree) removeLUNs(dir string) error {
	luns, err := list(dir, "lun_")
	if err != nil {
		return err
	}
	for _, name := range luns {
		lun := filepath.Join(dir, name)
		paths, err := links(lun)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, path := range paths {
			if err := t.rm(path); err != nil {
				return err
			}
		}
		if err := t.rm(lun); err != nil {
			return err
		}
	}
	return nil
}

// Recover removes what owners that no longer run have left below root, and
// returns the names of the targets. What it cannot remove does not stop it from
// trying the rest; the error names all of it. Without LIO on the host there is
// nothing to do.
func Recover(root string) (removed []string, err error) {
	return newTree(root).recover()
}

func (t tree) recover() (removed []string, err error) {
	targets, err := list(t.path("vhost"), "naa."+prefix)
	errs := []error{err}
	for _, name := range targets {
		id, ok := parseWWPN(name)
		if !ok {
			continue
		}
		lock, err := t.claim(id)
		if errors.Is(err, errOwned) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = t.removePatiently(id)
			lock.Close()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("target %s, whose owner has ended: %w", name, err))
			continue
		}
		removed = append(removed, name)
	}
	return removed, errors.Join(errs...)
}
