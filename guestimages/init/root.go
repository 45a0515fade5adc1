package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
)

// rootWords is the root file system that the kernel command line selects.
type rootWords struct {
	device   string // /dev/NAME, LABEL=, UUID=, PARTLABEL= or PARTUUID=; "": stay in the initial RAM file system
	fsType   string // "": detected
	data     string
	writable bool   // false if ro is the last of the words ro and rw
	overlay  bool   // writes stay in memory
	init     string // "": the usual paths
}

func (c cmdline) root() rootWords {
	r := rootWords{
		device:   c.value("root"),
		fsType:   c.value("rootfstype"),
		data:     c.value("rootflags"),
		writable: true,
		overlay:  c.value("minivmm.root") == "overlay",
		init:     c.value("init"),
	}
	for _, word := range c {
		if word == "ro" || word == "rw" {
			r.writable = word == "rw"
		}
	}
	return r
}

// rootWait is how long a disk may take to appear: the kernel detects disks asynchronously.
const rootWait = 10 * time.Second

// moveToDisk makes the disk's file tree the root file system.
func moveToDisk(r rootWords) error {
	const disk = "/disk"
	var device, detected string
	if !poll(rootWait, func() (ok bool) {
		device, detected, ok = findDisk(r.device)
		return ok
	}) {
		return fmt.Errorf("root=%s: no such disk; available: %s", r.device, strings.Join(disks(), " "))
	}
	r.fsType = cmp.Or(r.fsType, detected)
	if r.fsType == "" {
		return fmt.Errorf("root %s: unknown file system: name it with rootfstype=", device)
	}
	flags := uintptr(0)
	if !r.writable || r.overlay {
		flags = unix.MS_RDONLY
	}
	if err := os.MkdirAll(disk, 0o755); err != nil {
		return err
	}
	err := unix.Mount(device, disk, r.fsType, flags, r.data)
	if errors.Is(err, unix.EACCES) && flags == 0 { // a write-protected disk
		err = unix.Mount(device, disk, r.fsType, unix.MS_RDONLY, r.data)
	}
	if err != nil {
		return &os.PathError{Op: "mount " + r.fsType, Path: device, Err: err}
	}
	root := disk
	if r.overlay {
		if root, err = overlayOver(disk); err != nil {
			return err
		}
	}
	// From here on, the kernel cannot run this program as modprobe. The disk may have the usual
	// one.
	if err := setModprobe("/sbin/modprobe"); err != nil {
		return err
	}
	if err := emptyInitramfs(); err != nil {
		return err
	}
	return switchRoot(root)
}

// emptyInitramfs frees the memory of the initial RAM file system, which cannot be unmounted.
func emptyInitramfs() error {
	var root, st unix.Stat_t
	if err := unix.Lstat("/", &root); err != nil {
		return &os.PathError{Op: "lstat", Path: "/", Err: err}
	}
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := "/" + e.Name()
		// An entry on another device is a mount. No other folder contains a mount.
		if err := unix.Lstat(name, &st); err != nil || st.Dev != root.Dev {
			continue
		}
		if err := os.RemoveAll(name); err != nil {
			return err
		}
	}
	return nil
}

// overlayOver mounts a writable layer in memory over the tree lower, and returns the mount point.
func overlayOver(lower string) (string, error) {
	const rw, root = "/rw", "/root"
	if err := mount(agent.Mount{Source: "rw", Target: rw, Type: "tmpfs"}); err != nil {
		return "", err
	}
	for _, dir := range []string{rw + "/upper", rw + "/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", err
		}
	}
	return root, mount(agent.Mount{
		Source: "root", Target: root, Type: "overlay",
		Data: "lowerdir=" + lower + ",upperdir=" + rw + "/upper,workdir=" + rw + "/work",
	})
}

// switchRoot turns the mount at the given path into the root file system, as switch_root(8) does. A
// plain chroot is not enough: the kernel refuses to create user namespaces in it.
func switchRoot(root string) error {
	// MS_MOVE also moves the mounts below these folders, even without MS_REC.
	for _, dir := range []string{"/dev", "/sys", "/proc"} {
		err := os.MkdirAll(root+dir, 0o755)
		if errors.Is(err, unix.EROFS) {
			return fmt.Errorf("the root file system is read-only and lacks the folder for a mount: %w", err)
		}
		if err != nil {
			return err
		}
		if err := unix.Mount(dir, root+dir, "", unix.MS_MOVE, ""); err != nil {
			return &os.PathError{Op: "mount --move", Path: dir, Err: err}
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return &os.PathError{Op: "mount --move", Path: root, Err: err}
	}
	if err := unix.Chroot("."); err != nil {
		return &os.PathError{Op: "chroot", Path: root, Err: err}
	}
	return os.Chdir("/")
}

// boot becomes the init of the system on the disk. It returns only with an error.
func boot(root rootWords) error {
	if err := moveToDisk(root); err != nil {
		return err
	}
	candidates := []string{"/sbin/init", "/etc/init", "/bin/init"}
	if root.init != "" {
		candidates = []string{root.init}
	}
	for _, path := range candidates {
		err := unix.Exec(path, []string{path}, []string{"HOME=/", "TERM=linux"})
		if !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "execve", Path: path, Err: err}
		}
	}
	return fmt.Errorf("root %s: no program at %q: name one with init=, or run a command on it with minivmm run ... -- COMMAND", root.device, candidates)
}

// poll calls the function done until that returns true. If this takes longer than the given limit,
// poll returns false.
func poll(limit time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(limit); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// disks returns the names of all block devices, including partitions.
func disks() []string {
	entries, _ := os.ReadDir("/sys/class/block")
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// findDisk finds the device that name selects, by its path or by one of the tags below. ok is false
// if no such device can be read yet.
func findDisk(name string) (device, fsType string, ok bool) {
	if strings.HasPrefix(name, "/") {
		sb, err := readSuperblock(name)
		return name, sb.fsType, err == nil
	}
	tag, want, _ := strings.Cut(name, "=")
	for _, d := range disks() {
		device := "/dev/" + d
		sb, err := readSuperblock(device)
		if err != nil || want == "" {
			continue
		}
		var p partition
		if strings.HasPrefix(tag, "PART") {
			p = readPartition(d)
		}
		switch tag {
		case "LABEL":
			ok = want == sb.label
		case "UUID":
			ok = strings.EqualFold(want, sb.uuid)
		case "PARTLABEL":
			ok = want == p.label
		case "PARTUUID":
			ok = strings.EqualFold(want, p.uuid)
		}
		if ok {
			return device, sb.fsType, true
		}
	}
	return "", "", false
}
