import { MemoryStore } from '../../src/store/memory.ts';
import { describeStore } from './contract.ts';

describeStore(
  'memory',
  async () => {
    const store = new MemoryStore();
    return { store, close: () => store.close() };
  },
  {
    capabilities: {
      listMetadata: true,
      metadataBytesMax: 8 * 1024,
      conditionalGet: true,
      conditionalDelete: true,
    },
    except: {
      'an already aborted signal rejects head': 'MemoryStore.head answers at once and takes no signal',
    },
  },
);
