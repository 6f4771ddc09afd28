/** The pack's nodes, and ways through the graph: which loader feeds an Encode node, which Apply nodes it feeds. */
import { app } from '../../scripts/app.js'

export const LOADER = 'IPAdapterInstructLoader'
export const ENCODE = 'IPAdapterInstructEncode'
export const APPLY = 'IPAdapterInstructApply'

const CATEGORY = 'IPAdapter-Instruct'
const LONGEST = 100 // steps along reroutes, should they ever form a circle

export function isOurs(node) {
  return node.constructor.nodeData?.category?.split('/')[0] === CATEGORY
}

export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name)
}

/** Whether the widget's value comes through a link, so that setting it would do nothing. */
export function isLinked(node, name) {
  const slot = node.inputs?.findIndex((input) => input.widget?.name === name) ?? -1
  return slot >= 0 && node.isInputConnected(slot)
}

/** Every node of a kind in the open workflow, in its subgraphs too. */
export function nodesOfKind(kind, graph = app.rootGraph) {
  return (graph?.nodes ?? []).flatMap((node) =>
    node.comfyClass === kind ? [node] : node.subgraph ? nodesOfKind(kind, node.subgraph) : []
  )
}

/** The loader at the other end of an Encode node's adapter input; undefined when there is none in the same graph. */
export function loaderOf(encode) {
  let node = encode
  let slot = encode.inputs?.findIndex((input) => input.name === 'adapter')
  for (let step = 0; node && slot >= 0 && step < LONGEST; step++) {
    node = node.getInputNode(slot)
    if (node?.comfyClass === LOADER) return node
    slot = isReroute(node) ? 0 : -1
  }
}

/** The Apply nodes that an Encode node's embeds go to. */
export function appliesOf(encode) {
  return receivers(encode, 0).filter((node) => node.comfyClass === APPLY)
}

function receivers(node, slot, step = 0) {
  const direct = node.getOutputNodes(slot) ?? []
  return direct.flatMap((next) => (isReroute(next) && step < LONGEST ? receivers(next, 0, step + 1) : [next]))
}

function isReroute(node) {
  return node?.type === 'Reroute'
}
