package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"minivmm/guestimages/kernel"
)

const kernelHelp = `Manage kernels for guests: Debian's kernels and your own.

Each kernel is stored once, under the SHA-256 of its image, together with its modules and its unpacked vmlinux,
so that guests need not unpack it when they start. The store is in the folder minivmm of the user's cache, or
in $MINIVMM_CACHE.

NAME is a series like 6.12 or 6.1 (Debian's cloud kernel; 6.12-amd64 has drivers for physical machines), a
release like 6.12.117+deb12-cloud-amd64, a Debian package, a name set at import, or at least the first 6 digits
of an ID. The key boot.kernel and the flag --kernel accept it as store:NAME. minivmm initramfs --kernel accepts
NAME and store:NAME.
`

func newKernelCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "kernel",
		Short:   "Fetch, import, list and remove kernels",
		Long:    kernelHelp,
		Example: "  minivmm kernel fetch\n  minivmm kernel import arch/x86/boot/bzImage --modules /tmp/modules --name mine\n  minivmm kernel list",
	}, newKernelFetchCommand(), newKernelImportCommand(), newKernelListCommand(), newKernelRemoveCommand(),
		newKernelPathCommand())
}

// withKernels returns the RunE of a command for the user's kernel store.
func withKernels(do func(ctx context.Context, s *kernel.Store, cmd *cobra.Command, args []string) error) runE {
	return working(func(ctx context.Context, cmd *cobra.Command, args []string) error {
		c, err := openCache(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return do(ctx, kernel.Open(c), cmd, args)
	})
}

func newKernelFetchCommand() *cobra.Command {
	var refresh, makeDefault bool
	cmd := &cobra.Command{
		Use:   "fetch [NAME]",
		Short: "Fetch a kernel from Debian's packages, without installing it",
		Long: "Fetch a Debian kernel package with apt, which verifies it, and unpack it into the store. Nothing is\n" +
			"installed, and no root privileges are needed. Without NAME, fetch the newest cloud kernel in the host's\n" +
			"package sources and make it the default kernel. A kernel that is already in the store is not fetched again.",
		Example: "  minivmm kernel fetch\n  minivmm kernel fetch 6.1\n  minivmm kernel fetch --refresh",
		Args:    kernelNames(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().BoolVar(&refresh, "refresh", false, "check the package sources for a newer kernel")
	cmd.Flags().BoolVar(&makeDefault, "default", false, "make it the default kernel")
	cmd.RunE = withKernels(func(ctx context.Context, s *kernel.Store, cmd *cobra.Command, args []string) error {
		before, err := s.List()
		if err != nil {
			return err
		}
		get := s.Fetch
		if refresh {
			get = s.Refresh
		}
		k, err := get(ctx, strings.Join(args, "")) // one or none
		if err != nil {
			return err
		}
		if makeDefault {
			if err := s.SetDefault(ctx, k.ID); err != nil {
				return err
			}
		}
		how := "added"
		if slices.ContainsFunc(before, func(old kernel.Kernel) bool { return old.ID == k.ID }) {
			how = "already in the store"
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s: %s\n", kernelLabel(k), how, k.Source)
		return err
	})
	return cmd
}

func newKernelImportCommand() *cobra.Command {
	var o kernel.ImportOptions
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Import a kernel image of your own",
		Long: "Check a kernel image (a bzImage or vmlinux for x86-64) and copy it into the store. The modules folder is\n" +
			"/lib/modules/RELEASE or similar, or the INSTALL_MOD_PATH of make modules_install. It must contain all\n" +
			"modules of exactly this kernel.",
		Example: "  minivmm kernel import /boot/vmlinuz-6.1.0-50-amd64 --modules /lib/modules/6.1.0-50-amd64\n" +
			"  minivmm kernel import arch/x86/boot/bzImage --name mine --default",
		Args: args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&o.Modules, "modules", "", "folder of the kernel's modules")
	cmd.Flags().StringVar(&o.Name, "name", "", "name of the kernel; removed from another kernel that has it")
	argNames(cmd.Flags(), "modules=DIR", "name=NAME")
	cmd.Flags().BoolVar(&o.Default, "default", false, "make it the default kernel")
	cmd.RunE = withKernels(func(ctx context.Context, s *kernel.Store, cmd *cobra.Command, args []string) error {
		for _, flag := range []string{"modules", "name"} {
			if f := cmd.Flags().Lookup(flag); f.Changed && f.Value.String() == "" {
				return usageError{fmt.Errorf("--%s is empty", flag)}
			}
		}
		k, err := s.Import(ctx, args[0], o)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: added: %s\n", kernelLabel(k), k.Source)
		return err
	})
	return cmd
}

func newKernelListCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the kernels in the store",
		Example: "  minivmm kernel list\n  minivmm kernel list --json",
		Args:    args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	cmd.RunE = withKernels(func(_ context.Context, s *kernel.Store, cmd *cobra.Command, _ []string) error {
		all, err := s.List()
		switch {
		case err != nil:
			return err
		case asJSON:
			return printJSON(cmd.OutOrStdout(), append([]kernel.Kernel{}, all...)) // an empty list is [], not null
		}
		return kernelTable(all).print(cmd.OutOrStdout())
	})
	return cmd
}

func kernelTable(all []kernel.Kernel) columns {
	t := columns{{"ID", "NAME", "RELEASE", "SIZE", "DEFAULT", "SOURCE"}}
	for _, k := range all {
		mark := ""
		if k.Default {
			mark = "default"
		}
		t.row(k.ID[:12], k.Name, k.Release, about(k.SizeBytes), mark, k.Source)
	}
	return t
}

func newKernelRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME...",
		Short:   "Remove kernels",
		Long:    "Remove kernels from the store. Running guests are not affected.",
		Example: "  minivmm kernel rm 6.1.0-50-cloud-amd64\n  minivmm kernel rm 3f2a9c mine",
		Args:    kernelNames(cobra.MinimumNArgs(1)),
		RunE: withKernels(func(ctx context.Context, s *kernel.Store, cmd *cobra.Command, args []string) error {
			var errs error
			for _, name := range args {
				k, err := s.Remove(ctx, name)
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: removed\n", kernelLabel(k))
				}
				errs = errors.Join(errs, imageError(err))
			}
			return errs
		}),
	}
}

func newKernelPathCommand() *cobra.Command {
	var vmlinux, modules bool
	cmd := &cobra.Command{
		Use:     "path [NAME]",
		Short:   "Print the path of a kernel's image",
		Long:    "Print the path of a kernel's image, of its unpacked vmlinux, or of its modules folder. Without NAME, use the\ndefault kernel.",
		Example: "  minivmm kernel path 6.12\n  minivmm kernel path --modules mine",
		Args:    kernelNames(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().BoolVar(&vmlinux, "vmlinux", false, "print the path of the unpacked vmlinux")
	cmd.Flags().BoolVar(&modules, "modules", false, "print the path of the modules folder")
	cmd.RunE = withKernels(func(_ context.Context, s *kernel.Store, cmd *cobra.Command, args []string) error {
		if vmlinux && modules {
			return usageError{errors.New("--vmlinux and --modules exclude each other")}
		}
		k, err := s.Find(strings.Join(args, "")) // one or none
		if err != nil {
			return err
		}
		path := k.Image
		switch {
		case vmlinux && k.Vmlinux == "":
			return fileError{fmt.Errorf("%s has no unpacked vmlinux, because the guest unpacks it: %w", kernelLabel(k), fs.ErrNotExist)}
		case vmlinux:
			path = k.Vmlinux
		case modules && k.Modules == "":
			return fileError{fmt.Errorf("%s has no modules folder: import it again with --modules: %w", kernelLabel(k), fs.ErrNotExist)}
		case modules:
			path = k.Modules
		}
		_, err = fmt.Fprintln(rawOut(cmd), path)
		return err
	})
	return cmd
}

// kernelNames does the same as args, and also rejects empty kernel names.
func kernelNames(check cobra.PositionalArgs) cobra.PositionalArgs {
	return args(func(cmd *cobra.Command, args []string) error {
		if slices.Contains(args, "") {
			return errors.New("NAME is empty")
		}
		return check(cmd, args)
	})
}

// kernelLabel returns the first 12 digits of a kernel's ID, its name and its release.
func kernelLabel(k kernel.Kernel) string {
	return strings.Join(strings.Fields(k.ID[:12]+" "+k.Name+" "+k.Release), " ")
}
