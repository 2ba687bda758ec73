module github.com/slipway/slipway/dev/tools/pause

go 1.25.0
