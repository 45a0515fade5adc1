package cgroup

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// model is cgroupfs with the kernel's rules (kernel/cgroup/cgroup.c) and this process, which has
// two threads: 1, which writes, and 2.
type model struct {
	all     map[string]*node
	threads map[int]string    // the cgroup of each thread of this process
	attrs   map[string]string // "path name" of extended attributes
	denied  string            // a folder that may not be changed, nor anything in it
	readers map[string]string // other files
	left    int               // operations until one fails; 0: none fails
	log     []string
	locked  string // the locked folder
}

type node struct {
	others   string // pids of other processes
	dead     int    // rmdir calls that fail before the kernel forgets exited threads
	kind     string // "threaded", else a domain
	control  []string
	settings map[string]string
}

const mnt = "/cg"

var threaded = []string{"cpu", "cpuset", "pids"}

var settingFiles = map[string]bool{
	"cpu.max": true, "cpu.weight": true, "memory.max": true, "pids.max": true, "io.max": true,
}

func newModel(home string) *model {
	m := &model{
		all: map[string]*node{mnt: {control: []string{"cpuset", "cpu", "io", "memory", "pids"}}}, threads: map[int]string{}, attrs: map[string]string{}, readers: map[string]string{},
	}
	for i := range home {
		if home[i] == '/' && i > 0 {
			m.add(mnt+home[:i], m.all[mnt].control...)
		}
	}
	if home != "/" {
		m.add(mnt + home)
	}
	m.threads[1], m.threads[2] = path.Join(mnt, home), path.Join(mnt, home)
	return m
}

func (m *model) add(dir string, control ...string) *node {
	n := &node{control: control, settings: map[string]string{}}
	m.all[dir] = n
	return n
}

func fail(op, path string, err error) error { return &os.PathError{Op: op, Path: path, Err: err} }

func (m *model) step(op, path string) error {
	m.log = append(m.log, op+" "+path)
	// Only a vCPU's thread moves without the lock, and only between cgroups of the machine.
	if !strings.HasSuffix(path, "/cgroup.threads") && m.locked == "" {
		return fail(op, path, unix.ENOLCK)
	}
	if m.left > 0 {
		if m.left--; m.left == 0 {
			return fail(op, path, unix.EIO)
		}
	}
	if m.denied != "" && strings.HasPrefix(path, m.denied) {
		return fail(op, path, unix.EACCES)
	}
	return nil
}

func (m *model) controllers(dir string) []string {
	if dir == mnt {
		return m.all[mnt].control
	}
	if up := m.all[path.Dir(dir)]; m.all[dir].kind != "threaded" {
		return up.control
	}
	return slices.DeleteFunc(slices.Clone(m.all[path.Dir(dir)].control), func(c string) bool { return !slices.Contains(threaded, c) })
}

func (m *model) children(dir string) (all []string) {
	for d := range m.all {
		if path.Dir(d) == dir && d != mnt {
			all = append(all, d)
		}
	}
	slices.Sort(all)
	return all
}

func (m *model) hasTasks(dir string) bool {
	return m.all[dir].others != "" || slices.Contains(slices.Collect(maps.Values(m.threads)), dir)
}

func (m *model) populated(dir string) bool {
	return m.hasTasks(dir) || slices.ContainsFunc(m.children(dir), m.populated)
}

// canBeThreadRoot follows cgroup_can_be_thread_root.
func (m *model) canBeThreadRoot(dir string) bool {
	if dir == mnt {
		return true
	}
	domainChild := func(d string) bool { return m.all[d].kind != "threaded" && m.populated(d) }
	domainControl := func(c string) bool { return !slices.Contains(threaded, c) }
	return m.all[dir].kind != "threaded" && !slices.ContainsFunc(m.children(dir), domainChild) && !slices.ContainsFunc(m.all[dir].control, domainControl)
}

func (m *model) read(p string) (string, error) {
	if s, ok := m.readers[p]; ok {
		return s, nil
	}
	dir, file := path.Split(p)
	dir = path.Clean(dir)
	n, ok := m.all[dir]
	if !ok {
		return "", fail("open", p, unix.ENOENT)
	}
	switch file {
	case "cgroup.controllers":
		return strings.Join(m.controllers(dir), " "), nil
	case "cgroup.subtree_control":
		if dir == mnt {
			return strings.Join(m.controllers(dir), " "), nil
		}
		return strings.Join(n.control, " "), nil
	case "cgroup.procs":
		return n.others, nil
	}
	if dir != mnt {
		switch file {
		case "cgroup.events":
			if m.populated(dir) {
				return "populated 1\nfrozen 0", nil
			}
			return "populated 0\nfrozen 0", nil
		case "cgroup.type":
			switch {
			case n.kind == "threaded":
				return n.kind, nil
			case slices.ContainsFunc(m.children(dir), func(d string) bool { return m.all[d].kind == "threaded" }):
				return "domain threaded", nil
			}
			return "domain", nil
		}
	}
	return "", fail("open", p, unix.ENOENT)
}

func (m *model) write(p, value string) error {
	if err := m.step("write "+value, p); err != nil {
		return err
	}
	dir, file := path.Split(p)
	dir = path.Clean(dir)
	n, ok := m.all[dir]
	if !ok {
		return fail("open", p, unix.ENOENT)
	}
	switch file {
	case "cgroup.procs":
		// cgroup_migrate_vet_dst
		if !m.canBeThreadRoot(dir) && n.kind != "threaded" && len(n.control) > 0 {
			return fail("write", p, unix.EBUSY)
		}
		for tid := range m.threads {
			m.threads[tid] = dir
		}
	case "cgroup.threads":
		if path.Dir(m.threads[1]) != path.Dir(dir) {
			return fail("write", p, unix.EOPNOTSUPP)
		}
		m.threads[1] = dir
	case "cgroup.type":
		if !m.canBeThreadRoot(path.Dir(dir)) || value != "threaded" {
			return fail("write", p, unix.EOPNOTSUPP)
		}
		n.kind = value
	case "cgroup.subtree_control":
		c := value[1:]
		on := slices.Contains(n.control, c)
		switch {
		case value[0] == '-' && slices.ContainsFunc(m.children(dir), func(d string) bool { return slices.Contains(m.all[d].control, c) }):
			return fail("write", p, unix.EBUSY)
		case value[0] == '-':
			n.control = slices.DeleteFunc(n.control, func(x string) bool { return x == c })
		case !slices.Contains(m.controllers(dir), c):
			return fail("write", p, unix.ENOENT)
		case dir != mnt && m.hasTasks(dir) && !(slices.Contains(threaded, c) && m.canBeThreadRoot(dir)):
			return fail("write", p, unix.EBUSY)
		case !on:
			n.control = append(n.control, c)
		}
	default:
		c, _, _ := strings.Cut(file, ".")
		if !settingFiles[file] || !slices.Contains(m.controllers(dir), c) {
			return fail("open", p, unix.ENOENT)
		}
		if value == "bad" {
			return fail("write", p, unix.EINVAL)
		}
		n.settings[file] = value
	}
	return nil
}

func (m *model) mkdir(dir string) error {
	if err := m.step("mkdir", dir); err != nil {
		return err
	}
	if m.all[dir] != nil {
		return fail("mkdir", dir, unix.EEXIST)
	}
	m.add(dir)
	return nil
}

func (m *model) rmdir(dir string) error {
	if err := m.step("rmdir", dir); err != nil {
		return err
	}
	n := m.all[dir]
	switch {
	case n == nil:
		return fail("rmdir", dir, unix.ENOENT)
	case n.dead > 0:
		n.dead--
		return fail("rmdir", dir, unix.EBUSY)
	case m.populated(dir) || len(m.children(dir)) > 0:
		return fail("rmdir", dir, unix.EBUSY)
	}
	delete(m.all, dir)
	return nil
}

func (m *model) list(dir string) (names []string, err error) {
	for _, d := range m.children(dir) {
		names = append(names, path.Base(d))
	}
	return names, nil
}

func (m *model) xattr(path, name string) string { return m.attrs[path+" "+name] }

func (m *model) lock(dir string) (unlock func()) {
	if m.locked != "" {
		panic(dir + " is locked while " + m.locked + " is")
	}
	m.locked = dir
	return func() { m.locked = "" }
}

func (m *model) exists(path string) bool { return m.all[path] != nil }

// state returns the whole state as text, for comparison.
func (m *model) state() string {
	var b strings.Builder
	for _, dir := range slices.Sorted(maps.Keys(m.all)) {
		n := m.all[dir]
		fmt.Fprintf(&b, "%s %s control=%v others=%q settings=%v\n", dir, n.kind, n.control, n.others, n.settings)
	}
	fmt.Fprintf(&b, "threads %v", m.threads)
	return b.String()
}

var _ files = (*model)(nil)
