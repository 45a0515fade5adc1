package config

import (
	"bytes"
	"fmt"

	"github.com/BurntSushi/toml"
)

// TOML returns a configuration file that resolves to c, with every default written out.
func (c *Config) TOML() []byte {
	var b bytes.Buffer
	enc := toml.NewEncoder(&b)
	enc.Indent = ""
	if err := enc.Encode(c); err != nil {
		panic(fmt.Sprintf("config: a Config that cannot be written: %v", err))
	}
	return b.Bytes()
}
