package lio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// remove removes a target and its backstores, as far as they exist, in the reverse order of Create.
// It finds the objects in configfs, so it works after a crash at any point. If the target is the
// endpoint of a vhost device, remove removes nothing and returns EBUSY.
func (t tree) remove(id identity) error {
	target := t.path("vhost", wwpn(id))
	tpg := filepath.Join(target, tpgName)
	// The kernel checks for an endpoint before it checks for children (configfs_rmdir).
	err := t.rm(tpg)
	if errors.Is(err, unix.ENOTEMPTY) {
		err = t.removeTPG(tpg)
	}
	if err != nil {
		return err
	}
	for _, plugin := range []string{pluginFile, pluginBlock} {
		hba := t.path("core", id.hba(plugin))
		if err := t.rm(hba+"/"+id.String()+".*", hba); err != nil {
			return err
		}
	}
	return t.rm(target)
}

func (t tree) removeTPG(tpg string) error {
	acl := tpg + "/acls/naa." + prefix + "*"
	if err := t.rm(acl+"/lun_*/lun", acl+"/lun_*", tpg+"/lun/lun_*/backstore", tpg+"/lun/lun_*"); err != nil {
		return err
	}
	// Remove the session after its LUNs and before its ACL. The write fails with ENODEV if
	// there is no session.
	err := t.fs.write(filepath.Join(tpg, "nexus"), "NULL")
	if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return t.rm(acl, tpg)
}

// rm removes the links and objects that match the patterns (in the syntax of filepath.Glob), one
// pattern after the other.
func (t tree) rm(patterns ...string) error {
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := t.fs.remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// removePatiently is like remove, but retries while a vhost device still uses the target: a child
// process that has not yet called exec, or a killed process that is exiting, may hold the device
// for a short time.
func (t tree) removePatiently(id identity) error {
	const attempts, pause = 100, 10 * time.Millisecond
	err := t.remove(id)
	for i := 0; i < attempts && errors.Is(err, unix.EBUSY); i++ {
		time.Sleep(pause)
		err = t.remove(id)
	}
	return err
}

// Recover removes the targets whose owner no longer runs, and returns their names. If Recover
// cannot remove a target, it continues with the other targets and returns an error that names all
// failures. If the host has no LIO, Recover does nothing.
func Recover() (removed []string, err error) { return kernelTree.recover() }

func (t tree) recover() (removed []string, err error) {
	targets, err := filepath.Glob(t.path("vhost", "naa."+prefix+"*"))
	errs := []error{err}
	for _, path := range targets {
		name := filepath.Base(path)
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
			errs = append(errs, fmt.Errorf("target %s, whose owner has exited: %w", name, err))
			continue
		}
		removed = append(removed, name)
	}
	return removed, errors.Join(errs...)
}
