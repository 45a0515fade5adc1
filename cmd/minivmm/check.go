package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"minivmm/vmm/config"
)

func newCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "check FILE",
		Short:   "Check a configuration file",
		Long:    "Read a configuration file and print each problem as file:line:col: error: text. No machine is started.",
		Example: "  minivmm check debian.toml",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := load(args[0], nil)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ok: %s, vcpus %d, memory %s, net %d, disk %d\n",
				args[0], cfg.Name, cfg.Machine.VCPUs, cfg.Machine.Memory, len(cfg.Net), len(cfg.Disk))
			return nil
		},
	}
}

// fileError reports a file of the user's that cannot be read or used.
type fileError struct{ error }

func (e fileError) Unwrap() error { return e.error }

// load is config.Resolve, with errors of the file itself marked as fileError.
func load(name string, settings []config.Setting) (*config.Config, error) {
	cfg, err := config.Resolve(name, settings)
	if _, invalid := err.(*config.Error); err != nil && !invalid {
		return nil, fileError{err}
	}
	return cfg, err
}
