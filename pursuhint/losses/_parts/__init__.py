"""What several losses share and none of them is: connectors, maps, memory banks, negatives."""
