package disk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

// DebianOptions say what Debian is wanted.
type DebianOptions struct {
	Suite        string            // release, like "bookworm"; "" is this machine's
	Include      []string          // packages beside those that a console, a network and apt need
	Hostname     string            // "" is "debian"
	RootPassword string            // "" lets root in without one, at the console only
	Log          func(line string) // gets what is done, for people; may be nil
}

// debianPackages are beside Debian's essential ones and apt: an init with its console, names and addresses, and what
// looks after the root file system.
var debianPackages = []string{"systemd-sysv", "udev", "dbus", "systemd-resolved", "iproute2", "netbase", "kmod", "e2fsprogs", "login", "passwd"}

// debianRoom is how large a Debian's image is if nobody says.
const debianRoom = 2 << 30

// unpackGrace is what mmdebstrap gets to remove its folder, in which not every file is this user's.
const unpackGrace = time.Minute

// packageForm is Debian policy 5.6.1's.
func packageForm() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`) }

func suiteForm() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9-]*$`) }

// hostnameForm is one label of RFC 1123.
func hostnameForm() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)
}

func (o *DebianOptions) check() error {
	if o.Hostname == "" {
		o.Hostname = "debian"
	}
	for _, p := range o.Include {
		if !packageForm().MatchString(p) {
			return inputErrorf("%q is not a package name", p)
		}
	}
	switch {
	case o.Suite != "" && !suiteForm().MatchString(o.Suite):
		return inputErrorf("%q is not the name of a release", o.Suite)
	case !hostnameForm().MatchString(o.Hostname):
		return inputErrorf("%q is not a host name", o.Hostname)
	case strings.ContainsAny(o.RootPassword, "\n\x00"):
		return inputErrorf("a password is one line")
	}
	return nil
}

// Debian makes an image of a small Debian that boots to a login on its serial console: Begin, Build.Debian and Close.
func Debian(ctx context.Context, path string, force bool, opt Options, deb DebianOptions) (err error) {
	b, err := Begin(path, force)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return b.Debian(ctx, opt, deb)
}

// Debian makes the build's image of packages from this machine's own sources, checked with its keys. mmdebstrap unpacks
// and configures them: as root, or without in a user namespace, for which the user needs a range in /etc/subuid.
func (b *Build) Debian(ctx context.Context, opt Options, deb DebianOptions) error {
	if opt.FS == None {
		opt.FS = Ext4
	}
	if opt.Label == "" {
		opt.Label = "root"
	}
	if opt.FS != Ext4 {
		return inputErrorf("a Debian needs a file system that it can write to: ext4")
	}
	if err := errors.Join(opt.Check(), deb.check()); err != nil {
		return err
	}
	codename, err := osRelease("/etc/os-release", "VERSION_CODENAME")
	if err != nil {
		return err
	}
	all, err := readSources("/etc/apt")
	if err != nil {
		return err
	}
	sources, suite, err := forSuite(all, codename, deb.Suite)
	if err != nil {
		return err
	}
	dir, err := b.TempDir("tree")
	if err != nil {
		return err
	}
	tree, err := filetree.New(dir, filetree.Limits{})
	if err != nil {
		return err
	}
	if err := b.bootstrap(ctx, tree, opt, deb, sources, suite); err != nil {
		return err
	}
	// Two of these disks have the same label, and may be in one machine.
	if opt.UUID == "" {
		opt.UUID = randomUUID()
	}
	if err := settle(tree, opt.UUID, deb.Hostname, sources); err != nil {
		return err
	}
	if opt.SizeBytes == 0 {
		opt.SizeBytes = max(debianRoom, measure(tree).comfortable())
	}
	return b.FromTree(ctx, tree, opt)
}

// osRelease returns a value of os-release(5); none is "".
func osRelease(path, name string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			return strings.Trim(value, `"'`), nil
		}
	}
	return "", nil
}

// passwordHook sets root's password in the way of the guest's own login.
const passwordHook = `printf 'root:%s\n' "$MINIVMM_ROOT_PASSWORD" | chroot "$1" chpasswd`

// bootstrapDir returns the folder for mmdebstrap to install the packages in: the one for temporary files, or for root the
// build's own, where its file system lets programs run and, for root, has device nodes. Without root, the user that
// mmdebstrap becomes has no access to the build's folder. flags returns those of a folder's mount, as statfs(2) does.
func bootstrapDir(own string, root bool, flags func(dir string) (int64, error)) (string, error) {
	dirs, bars, words := []string{os.TempDir()}, int64(unix.ST_NOEXEC), "noexec"
	if root {
		dirs, bars, words = append(dirs, own), bars|unix.ST_NODEV, "noexec or nodev"
	}
	for _, dir := range dirs {
		has, err := flags(dir)
		if err != nil {
			return "", &os.PathError{Op: "statfs", Path: dir, Err: err}
		}
		if has&bars == 0 {
			return dir, nil
		}
	}
	return "", fmt.Errorf("disk: a Debian cannot be installed in %s, whose file system is mounted %s: set TMPDIR to a folder on another one: %w",
		strings.Join(dirs, " or "), words, errors.ErrUnsupported)
}

func mountFlags(dir string) (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return st.Flags, err
}

// bootstrap runs mmdebstrap and reads what it made into the tree.
func (b *Build) bootstrap(ctx context.Context, tree *filetree.Tree, opt Options, deb DebianOptions, sources []source, suite string) error {
	what := "making a Debian"
	packages := []string{"mmdebstrap"}
	if os.Geteuid() != 0 {
		packages = append(packages, "uidmap")
	}
	mmdebstrap, err := findTool(ctx, opt.Install, what, packages[0], strings.Join(packages, " "))
	if err != nil {
		return err
	}
	temp, err := bootstrapDir(b.dir, os.Geteuid() == 0, mountFlags)
	if err != nil {
		return err
	}
	list := filepath.Join(b.dir, "debian.sources")
	ways := filepath.Join(b.dir, "apt.conf")
	text, err := aptWays(ctx)
	if err == nil {
		err = errors.Join(os.WriteFile(list, []byte(formatSources(sources)), 0o600), os.WriteFile(ways, text, 0o600))
	}
	if err != nil {
		return err
	}
	include := strings.Join(append(append([]string{}, debianPackages...), deb.Include...), ",")
	args := []string{"--variant=minbase", "--format=tar", "--include=" + include, "--aptopt=" + ways}
	env := []string{"DEBIAN_FRONTEND=noninteractive", "TMPDIR=" + temp}
	if deb.RootPassword != "" {
		args = append(args, "--customize-hook="+passwordHook)
		env = append(env, "MINIVMM_ROOT_PASSWORD="+deb.RootPassword)
	}
	t := tool{path: mmdebstrap, args: append(args, suite, "-", list), dir: "/", env: env, grace: unpackGrace, lines: func(line string) {
		if text, ok := strings.CutPrefix(line, "I: "); ok && deb.Log != nil {
			deb.Log(text)
		}
	}}
	running, stop := context.WithCancel(ctx)
	defer stop()
	from, to := io.Pipe()
	t.stdout = to
	ran := make(chan error, 1)
	go func() {
		_, _, err := t.run(running)
		to.CloseWithError(err) // nil is an end of file
		ran <- err
	}()
	addErr := tree.AddTar(running, bufio.NewReaderSize(from, 1<<20))
	from.CloseWithError(addErr)
	if addErr != nil {
		stop()
	}
	runErr := <-ran
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case runErr == nil, addErr != nil && running.Err() != nil:
		return addErr
	case os.Geteuid() != 0:
		return fmt.Errorf("%w\nwithout root it needs user namespaces and a range for this user in /etc/subuid and /etc/subgid (package uidmap): subuid(5)", runErr)
	}
	return runErr
}

// aptWays returns those of this machine's apt settings that say how to get at its sources: proxies, certificates, and
// which dates to believe. The guest's apt never sees them.
func aptWays(ctx context.Context) ([]byte, error) {
	path := lookTool("apt-config")
	if path == "" {
		return nil, fmt.Errorf("disk: no apt on this machine: a Debian is made of packages from its sources: %w", errors.ErrUnsupported)
	}
	out, _, err := tool{path: path, args: []string{"dump", "--no-empty"}}.run(ctx)
	if err != nil {
		return nil, err
	}
	var ways bytes.Buffer
	for line := range bytes.Lines(out) {
		for _, prefix := range []string{"Acquire::http", "Acquire::https", "Acquire::ftp", "Acquire::Check-", "Acquire::Retries"} {
			if bytes.HasPrefix(line, []byte(prefix)) {
				ways.Write(line)
				break
			}
		}
	}
	return ways.Bytes(), nil
}
