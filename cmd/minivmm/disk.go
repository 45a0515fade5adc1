package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/disk"
	"minivmm/guestimages/oci"
	"minivmm/vmm/config"
)

const diskHelp = `Create, resize and describe disk images. No root privileges are needed.

An image is a raw, sparse file that only its owner can read. It appears only when it is complete: a failed or
interrupted command leaves nothing behind. A disk in use by a machine is locked: it cannot be replaced or
resized. A machine does not start with a disk that is being resized.

A raw image has no place for a serial number. A machine sets it with the key serial in [[disk]]
(--disk FILE,serial=NAME). The image itself contains the label and the UUID of its file system. A guest with
udev finds the disk as /dev/disk/by-label/LABEL and /dev/disk/by-uuid/UUID.
`

const diskFromHelp = `Create a disk from a folder or a tar. SOURCE - reads a tar from stdin. A tar may be compressed with gzip, zstd,
xz, lz4 or bzip2.

The disk keeps owners, modes, times, hard links, device nodes and extended attributes of the source. The same
source always produces the same bytes. Without --size, an ext4 disk gets the size of its content plus a
quarter plus 64M. An erofs is read-only and only as large as its content. --fs erofs requires mkfs.erofs 1.8.5
or newer (Debian 13) and cannot store sockets, nor fractions of a second in times before 1970.
`

const diskDebianHelp = `Create a disk with a small Debian that boots systemd to a login on the serial console.

mmdebstrap installs the packages from the host's own package sources and verifies them with the host's keys.
Without root, it requires a range for the user in /etc/subuid and /etc/subgid. Without --root-password-file,
root logs in on the console without a password. The network is configured by DHCP, or by ip= on the kernel
command line. The guest keeps the package sources, without passwords in them, but no proxy or other setting of
the host.

Boot it with root=/dev/sda and a kernel that supports the disk, the console and ext4, such as the default kernel.
`

func newDiskCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "disk",
		Short:   "Create, resize and describe disk images",
		Long:    diskHelp,
		Example: "  minivmm disk create data.img 10G --fs ext4\n  minivmm disk debian debian.img\n  minivmm disk info debian.img",
	}, newDiskCreateCommand(), newDiskFromCommand(), newDiskFromOCICommand(), newDiskDebianCommand(),
		newDiskResizeCommand(), newDiskInfoCommand())
}

// diskFlags are the flags of the commands that create disks.
type diskFlags struct {
	fs    string
	size  config.Size
	label string
	uuid  string
	force bool
}

// add adds to cmd the flags with the given names, and --force.
func (f *diskFlags) add(cmd *cobra.Command, names ...string) {
	all, flags := pflag.NewFlagSet("", pflag.ContinueOnError), cmd.Flags()
	all.StringVar(&f.fs, "fs", f.fs, "file system: ext4 or erofs")
	all.Var(flag{"SIZE", text(&f.size)}, "size", "size of the disk, like 2G")
	all.StringVar(&f.label, "label", f.label, "label of the file system")
	all.StringVar(&f.uuid, "uuid", "", "UUID of the file system")
	argNames(all, "fs=NAME", "label=LABEL", "uuid=UUID")
	flags.SortFlags = false
	for _, name := range names {
		flags.AddFlag(all.Lookup(name))
	}
	flags.BoolVar(&f.force, "force", false, "replace an existing file")
}

func (f *diskFlags) options(log io.Writer) disk.Options {
	return disk.Options{FS: disk.FS(f.fs), SizeBytes: int64(f.size), Label: f.label, UUID: strings.ToLower(f.uuid), Install: installer(log)}
}

// parseSize parses a size argument. An invalid size is a usage error.
func parseSize(text string) (int64, error) {
	var s config.Size
	if err := s.UnmarshalText([]byte(text)); err != nil {
		return 0, usageError{err}
	}
	return int64(s), nil
}

// installer returns a function that installs missing packages on the host.
func installer(log io.Writer) disk.Installer {
	return func(ctx context.Context, what string, packages ...string) error {
		c, err := openCache(log)
		if err != nil {
			return err
		}
		return debian.New(c).Install(ctx, what, packages...)
	}
}

func newDiskCreateCommand() *cobra.Command {
	var f diskFlags
	cmd := &cobra.Command{
		Use:     "create FILE SIZE",
		Short:   "Create an empty disk",
		Long:    "Create an empty disk: all zeros, or with an empty ext4.",
		Example: "  minivmm disk create data.img 10G\n  minivmm disk create data.img 10G --fs ext4 --label data",
		Args:    args(cobra.ExactArgs(2)),
		RunE: working(func(ctx context.Context, cmd *cobra.Command, args []string) (err error) {
			opt := f.options(cmd.ErrOrStderr())
			if opt.SizeBytes, err = parseSize(args[1]); err != nil {
				return err
			}
			return disk.Create(ctx, args[0], f.force, opt)
		}),
	}
	f.add(cmd, "fs", "label", "uuid")
	cmd.Flags().Lookup("fs").Usage = "file system: ext4"
	return cmd
}

func newDiskFromCommand() *cobra.Command {
	f := diskFlags{fs: string(disk.Ext4)}
	var as owner
	cmd := &cobra.Command{
		Use:     "from SOURCE FILE",
		Short:   "Create a disk from a folder or a tar",
		Long:    diskFromHelp,
		Example: "  minivmm disk from rootfs root.img --owner 0:0\n  docker export web | minivmm disk from - web.img --fs erofs",
		Args:    args(cobra.ExactArgs(2)),
		RunE: working(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return diskFrom(ctx, args[0], args[1], as, f, cmd.InOrStdin(), cmd.ErrOrStderr())
		}),
	}
	f.add(cmd, "fs", "size", "label", "uuid")
	cmd.Flags().Var(as.flag(), "owner", "numeric owner of all files from a folder")
	return cmd
}

func diskFrom(ctx context.Context, source, path string, as owner, f diskFlags, stdin io.Reader, log io.Writer) (err error) {
	kind := "tar"
	if source != "-" {
		st, err := os.Stat(source)
		if err != nil {
			return err
		}
		if st.IsDir() {
			kind, err = "dir", outside(path, source)
		}
		if err != nil {
			return usageError{err}
		}
	}
	if as.set && kind != "dir" {
		return usageError{errors.New("--owner works only with a folder: a tar has owners of its own")}
	}
	b, err := disk.Begin(path, f.force)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	tree, err := b.Tree()
	if err != nil {
		return err
	}
	if err := addSource(ctx, tree, kind, source, as, stdin); err != nil {
		return sourceError(err)
	}
	return b.FromTree(ctx, tree, f.options(log))
}

func newDiskDebianCommand() *cobra.Command {
	f := diskFlags{label: "root"}
	var deb disk.DebianOptions
	var passwordFile string
	cmd := &cobra.Command{
		Use:   "debian FILE",
		Short: "Create a disk with a small Debian",
		Long:  diskDebianHelp,
		Example: "  minivmm disk debian debian.img\n" +
			"  minivmm disk debian web.img --include nginx,openssh-server --hostname web --size 8G --root-password-file password",
		Args: args(cobra.ExactArgs(1)),
		RunE: working(func(ctx context.Context, cmd *cobra.Command, args []string) (err error) {
			if deb.RootPassword, err = readPassword(passwordFile); err != nil {
				return err
			}
			deb.Log = func(line string) { fmt.Fprintf(cmd.ErrOrStderr(), "minivmm: debian: %s\n", line) }
			return disk.Debian(ctx, args[0], f.force, f.options(cmd.ErrOrStderr()), deb)
		}),
	}
	f.add(cmd, "size", "label", "uuid")
	flags := cmd.Flags()
	flags.StringSliceVar(&deb.Include, "include", nil, "additional packages")
	flags.StringVar(&deb.Suite, "suite", "", "release, like bookworm (default: the host's)")
	flags.StringVar(&deb.Hostname, "hostname", "debian", "host name of the guest")
	flags.StringVar(&passwordFile, "root-password-file", "", "file with root's password in its first line")
	argNames(flags, "include=PACKAGE,...", "suite=NAME", "hostname=NAME", "root-password-file=FILE")
	flags.Lookup("include").DefValue = ""
	return cmd
}

// readPassword returns the first line of a file, or "" if name is "".
func readPassword(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if line == "" {
		return "", fileError{fmt.Errorf("%s: the first line, which must be the password, is empty", name)}
	}
	return line, nil
}

func newDiskResizeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resize FILE SIZE",
		Short: "Grow or shrink a disk",
		Long: "Grow or shrink a disk together with the ext4 in it. A SIZE like +1G is added to the current size. A size\n" +
			"that would cut off data is rejected. Partitions are not changed. The disk must not be in use.",
		Example: "  minivmm disk resize debian.img +2G\n  minivmm disk resize data.img 500M",
		Args:    args(cobra.ExactArgs(2)),
		RunE: working(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			text, more := strings.CutPrefix(args[1], "+")
			size, err := parseSize(text)
			if err != nil {
				return err
			}
			if more {
				info, err := disk.Inspect(args[0])
				if err != nil {
					return err
				}
				size += info.SizeBytes
			}
			return disk.Resize(ctx, args[0], size, installer(cmd.ErrOrStderr()))
		}),
	}
}

func newDiskInfoCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "info FILE...",
		Short: "Show the content and the users of disks",
		Long: "Show for each disk its size, the space that it uses on the host, its file system with label and UUID, and\n" +
			"the process that uses it. The command locks and changes nothing: it is safe while a machine runs.",
		Example: "  minivmm disk info debian.img data.img\n  minivmm disk info --json debian.img",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: working(func(_ context.Context, cmd *cobra.Command, args []string) (failed error) {
			for _, name := range args {
				info, err := disk.Inspect(name)
				if err == nil {
					err = printInfo(cmd.OutOrStdout(), info, asJSON)
				}
				failed = errors.Join(failed, err)
			}
			return failed
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line")
	return cmd
}

func printInfo(w io.Writer, i disk.Info, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(i)
	}
	fs := cmp.Or(string(i.FS), "unknown file system")
	if i.FS != "" && i.FreeBytes > 0 {
		fs += fmt.Sprintf(" with %s free", about(i.FreeBytes))
	}
	words := []string{config.Size(i.SizeBytes).String(), about(i.UsedBytes) + " used on the host", fs}
	if i.Label != "" {
		words = append(words, fmt.Sprintf("label %q", i.Label))
	}
	if i.UUID != "" {
		words = append(words, "UUID "+i.UUID)
	}
	if i.InUseBy != "" {
		words = append(words, "in use by "+i.InUseBy)
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", i.Path, strings.Join(words, ", "))
	return err
}

// about formats a size with at least two significant digits where possible.
func about(n int64) string {
	for i, unit := range "KMGT" {
		if size := float64(n) / float64(int64(1)<<(10*(i+1))); size < 10240 || unit == 'T' {
			return fmt.Sprintf("%.0f%c", size, unit)
		}
	}
	return ""
}

const diskFromOCIHelp = `Create a disk from a container image for linux/amd64.

IMAGE is a local path or a registry name. A path starts with /, ./, ../ or oci:, like ./app.tar, and refers to
an OCI image layout (a folder or a tar) or to an archive of docker save. oci:PATH:TAG selects one of several
images in a file. A registry name is NAME[:TAG] or NAME@DIGEST, as in docker pull. Credentials for registries
come from the docker config file, which docker login writes.

The image's command, with its user, folder and environment, is stored in the disk at /.minivmm/image.json.
minivmm's init runs it in the guest. StopSignal, ports, labels and health check of the image are ignored.

The image is unpacked into the cache once. The disk is a copy with its own UUID. --pull determines when
minivmm asks the registry which image a tag refers to: only if the tag is not in the cache (missing), each time
(always; if the registry does not respond, the cached image is used), or never (never).
`

func newDiskFromOCICommand() *cobra.Command {
	var f diskFlags
	pull := string(oci.PullMissing)
	cmd := &cobra.Command{
		Use:     "from-oci IMAGE FILE",
		Short:   "Create a disk from a container image",
		Long:    diskFromOCIHelp,
		Example: "  minivmm disk from-oci nginx:1 web.img --size 4G\n  docker save app | gzip >app.tar.gz && minivmm disk from-oci ./app.tar.gz app.img",
		Args:    args(cobra.ExactArgs(2)),
		RunE: working(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			if !slices.Contains([]oci.Policy{oci.PullMissing, oci.PullAlways, oci.PullNever}, oci.Policy(pull)) {
				return usageError{fmt.Errorf("invalid --pull %q: want missing, always or never", pull)}
			}
			log := cmd.ErrOrStderr()
			c, err := openCache(log)
			if err != nil {
				return err
			}
			d, err := oci.Create(ctx, c, args[0], args[1], f.force, oci.Options{Pull: oci.Policy(pull)}, f.options(log))
			if err != nil {
				return err
			}
			c.Logf("%s: runs: %s", args[1], runs(d.Command))
			return nil
		}),
	}
	f.add(cmd, "size", "label", "uuid")
	cmd.Flags().StringVar(&pull, "pull", pull, "when to ask the registry: missing, always or never")
	argNames(cmd.Flags(), "pull=WHEN")
	return cmd
}

// runs returns a one-line description of a command.
func runs(c agent.Command) string {
	what := "nothing, the image has no command"
	if len(c.Argv) > 0 {
		what = quoted(c.Argv)
	}
	return fmt.Sprintf("%s; user %s; folder %s; environment %s", what, quoted([]string{c.User}), quoted([]string{c.Dir}), quoted(c.Env))
}

// quoted joins the strings of list with spaces and quotes those with special characters: strings
// from an image may contain any bytes.
func quoted(list []string) string {
	var out []string
	for _, s := range list {
		if plain := strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+,-./:=@_%"); plain != "" || s == "" {
			s = strconv.Quote(s)
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}
